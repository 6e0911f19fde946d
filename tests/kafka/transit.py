"""As much of Vault's Transit engine as an agent asks of it, on loopback. It keeps no secret."""

import base64
import http.server
import json
import os
import threading


class Transit:
    """Has every key that somebody asks for, but for those in `missing`. While `is_out` is set it answers with 503, and while
    `is_denying` is set with 403. `made` and `opened` count data keys, by the name of the key."""

    def __init__(self):
        self.missing = set()
        self.is_out = self.is_denying = False
        self.made, self.opened = {}, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 20

            def do_GET(self):  # noqa: N802 - the library's name
                self._answer({})

            def do_POST(self):  # noqa: N802 - the library's name
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}"))

            def log_message(self, *_):
                pass

            def _answer(self, asked):
                status, answer = outer.answer(self.path.removeprefix("/v1/"), self.headers["X-Vault-Token"], asked)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path, token, asked):
        if self.is_out:
            return 503, {"errors": ["Vault is sealed"]}
        if self.is_denying or token != "token":
            return 403, {"errors": ["permission denied"]}
        what, _, key = path.rpartition("/")
        if what == "auth/token":
            return 200, {"data": {"ttl": 0, "renewable": False}}
        if key in self.missing:
            return (404, {"errors": []}) if what == "transit/keys" else (400, {"errors": ["encryption key not found"]})
        if what == "transit/keys":
            return 200, {"data": {"type": "aes256-gcm96", "derived": False}}
        # What is wrapped has the key's name before it, in place of encryption.
        if what == "transit/datakey/plaintext":
            self.made[key] = self.made.get(key, 0) + 1
            plaintext = os.urandom(32)
            return 200, {"data": {"plaintext": base64.b64encode(plaintext).decode(),
                                  "ciphertext": "vault:v1:" + base64.b64encode(key.encode() + plaintext).decode()}}
        assert what == "transit/decrypt", path
        self.opened[key] = self.opened.get(key, 0) + 1
        results = []
        for item in asked["batch_input"]:
            wrapped = base64.b64decode(item["ciphertext"].removeprefix("vault:v1:"))
            plaintext = wrapped.removeprefix(key.encode())
            good = {"plaintext": base64.b64encode(plaintext).decode()}
            bad = {"error": "cipher: message authentication failed"}
            results.append({"reference": item["reference"], **(good if len(plaintext) == 32 else bad)})
        return 200, {"data": {"batch_results": results}}
