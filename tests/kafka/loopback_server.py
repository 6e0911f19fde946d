"""An HTTP server on loopback, for what agents ask over HTTP."""

import http.server
import threading


class LoopbackServer:
    """Answers with `handler` (an http.server.BaseHTTPRequestHandler) on `port` while it is entered; with `context`, by TLS."""

    def __init__(self, handler, context=None):
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 20

    def log_message(self, *_):
        pass
