"""The leaderboard: a Streamlit app for browsing a results folder, and a static site with the same tables and charts."""
