"""An HTTPS server with a bundle of policies, as a fleet would have one."""

import hashlib
import ssl
import threading

from loopback_server import Handler, LoopbackServer


class BundleServer(LoopbackServer):
    """Serves `bundle` (bytes) at `url` to those who show `token`, with an ETag; counts in `answers` what it has answered, by status.
    Whoever asks while `answering` is clear waits until it is set, and gets no answer; `asked` counts all."""

    def __init__(self, certificate, token):
        self.bundle = b""
        self.answers = {}
        self.asked = 0
        self.answering = threading.Event()
        self.answering.set()
        outer = self

        class Answers(Handler):
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

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate + ".crt", certificate + ".key")
        super().__init__(Answers, context)
        self.url = f"https://127.0.0.1:{self.port}/fleet.bundle"
