"""What is served: the app with the guard around it. Streamlit finds ``app`` by its name."""

from pathlib import Path

import streamlit
from harness_leaderboard.guard import RequestGuard, headers
from starlette.middleware import Middleware
from streamlit import config

PAGE = Path(streamlit.__file__).parent / "static" / "index.html"

app = streamlit.App(
    Path(__file__).with_name("leaderboard.py"),
    middleware=[Middleware(RequestGuard, address=str(config.get_option("server.address")), headers=headers(PAGE))],
)
