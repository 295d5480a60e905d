"""Names that the command and the app agree on, apart from both so that the command imports no Streamlit."""

RESULTS_VARIABLE = "HARNESS_LEADERBOARD_RESULTS"
