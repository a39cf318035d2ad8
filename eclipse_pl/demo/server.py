"""The server of the demo: gradio without what would leave this machine."""

from __future__ import annotations

import errno
import os
import socket
from importlib.util import find_spec
from typing import Any

from eclipse_pl.demo.batcher import Batcher

UPLOAD = "1kb"
"""The largest file that is taken. No field of the page takes one."""
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    # its statistics of the last calls, kept in memory and summed up by pandas after every call
    "GRADIO_ANALYTICS_MAX_EVENTS": "100",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12),
}
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
"""Those of the reader's machine: gradio's own would be fetched from elsewhere."""


def require_gradio() -> None:
    """Raise ValueError where gradio is not installed."""
    if find_spec("gradio") is None:
        raise ValueError("The demo needs gradio, which is not installed: pip install eclipse_pl[demo].")


def require_port(host: str, port: int) -> None:
    """Check the address before anything is loaded.

    Raises:
        ValueError: The port is in use, or is not allowed, or the host is none of this machine.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"--port is {port}; it must be from 1 to 65535.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except socket.gaierror as error:
        raise ValueError(f"--host {host} is no address. Use 127.0.0.1 for this machine alone, or 0.0.0.0 for all.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"Port {port} of {host} is in use. Name another one with --port.") from error
        raise ValueError(f"--host {host} --port {port} cannot be used ({error.strerror}).") from error


def start(batcher: Batcher, host: str, port: int, share: bool, queue: int) -> tuple[Any, str]:
    """Start the server, and return its blocks and its address; ``blocks.close()`` ends it.

    Args:
        batcher: Answers the requests.
        host: The address that it listens on.
        port: Its port.
        share: Whether gradio makes a public link, through a server of its makers.
        queue: The most requests that wait.
    """
    for name, value in SETTINGS.items():  # gradio reads them when it is imported, and when it is started
        os.environ.setdefault(name, value)
    import gradio as gr

    from eclipse_pl.demo.page import STYLE, build_page

    blocks = build_page(batcher, queue)
    _, local, public = blocks.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        max_threads=4 * batcher.most,  # a call waits in a thread: twice a batch of programs, a batch of pages
        quiet=True,
        show_error=False,  # an error that is no sentence of ours may show paths of this machine
        max_file_size=UPLOAD,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["api", "settings"],
        theme=gr.themes.Default(primary_hue="indigo", **FONTS),
        css_paths=STYLE,
    )
    return blocks, public or local
