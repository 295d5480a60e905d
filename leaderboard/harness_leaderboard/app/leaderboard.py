"""The script that Streamlit runs; alone in its folder, which Streamlit puts first on the import path."""

from harness_leaderboard.main import main

main()
