"""An HTTPS server with a bundle of policies, as a fleet would have one."""

import hashlib
import http.server
import ssl
import threading


class BundleServer:
    """Serves `bundle` (bytes) at `url` to those who show `token`, with an ETag; counts in `answers` what it has answered, by status.
    Whoever asks while `answering` is clear waits until it is set, and gets no answer; `asked` counts all."""

    def __init__(self, certificate, token):
        self.bundle = b""
        self.answers = {}
        self.asked = 0
        self.answering = threading.Event()
        self.answering.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 20

            def do_GET(self):  # noqa: N802 - the library's name
                outer.asked += 1
                if not outer.answering.is_set():
                    outer.answering.wait(60)
                    return
                etag = f'"{hashlib.sha256(outer.bundle).hexdigest()}"'
                if self.headers["Authorization"] != f"Bearer {token}":
                    status = 401
                elif self.path != "/fleet.bundle":
                    status = 404
                else:
                    status = 304 if self.headers["If-None-Match"] == etag else 200
                outer.answers[status] = outer.answers.get(status, 0) + 1
                self.send_response(status)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(outer.bundle)) if status == 200 else "0")
                self.end_headers()
                if status == 200:
                    self.wfile.write(outer.bundle)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate + ".crt", certificate + ".key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/fleet.bundle"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
