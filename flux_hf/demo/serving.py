"""Serving the page on this machine, and nothing else: no analytics, no share link, no other host's fonts or code."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware

from flux_hf.checkpoints import example_clips
from flux_hf.demo.classifier import DemoClassifier
from flux_hf.demo.uploads import Uploads

STYLE = Path(__file__).with_name("style.css")

ONLY_FROM_HERE = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""Content-Security-Policy: the browser itself refuses every request to another host."""


class ContentPolicy:
    """ASGI middleware that sends `ONLY_FROM_HERE` with every answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_policy(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = ONLY_FROM_HERE
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)


def serve(classifier: DemoClassifier, *, host: str = "127.0.0.1", port: int = 7860, upload_mb: int = 200) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Uploads lie in a folder of this process, which is deleted at the end.

    Args:
        host: address to listen on; `0.0.0.0` lets other machines in.
        upload_mb: largest file that is taken, in MB.

    Raises:
        OSError: the port is taken, or the address is not one of this machine.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="flux_hf_demo_") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        from flux_hf.demo.page import build_page, theme  # gradio reads these variables when it is imported

        page = build_page(classifier, Uploads(folder), upload_mb)
        page.queue(max_size=64)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                quiet=True,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                enable_monitoring=False,
                prevent_thread_lock=True,
                max_file_size=f"{upload_mb}mb",
                allowed_paths=sorted(example_clips().values()),
                footer_links=["api"],
                theme=theme(),
                css_paths=STYLE,
                head=f"<style>{STYLE.read_text(encoding='utf-8')}</style>",  # css= alone does not reach the outer frame
                app_kwargs={"middleware": [Middleware(ContentPolicy)]},
            )
            print(f"{classifier.name}: http://{host}:{port}/  (Ctrl-C ends it)", flush=True)
            page.block_thread()
        finally:
            page.close(verbose=False)
