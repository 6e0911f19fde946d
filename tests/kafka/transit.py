"""As much of Vault's Transit engine as an agent asks of it, on loopback. It keeps no secret."""

import base64
import json
import os

from loopback_server import Handler, LoopbackServer


class Transit(LoopbackServer):
    """Has every key that somebody asks for. While `is_out` is set it answers with 503. `made` counts data keys, by the name of the key."""

    def __init__(self):
        self.is_out = False
        self.made = {}
        outer = self

        class Answers(Handler):
            def do_GET(self):  # noqa: N802 - the library's name
                self._answer({})

            def do_POST(self):  # noqa: N802 - the library's name
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}"))

            def _answer(self, asked):
                status, answer = outer.answer(self.path.removeprefix("/v1/"), self.headers["X-Vault-Token"], asked)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Answers)
        self.address = f"http://127.0.0.1:{self.port}"

    def answer(self, path, token, asked):
        if self.is_out:
            return 503, {"errors": ["Vault is sealed"]}
        if token != "token":
            return 403, {"errors": ["permission denied"]}
        what, _, key = path.rpartition("/")
        if what == "auth/token":
            return 200, {"data": {"ttl": 0, "renewable": False}}
        if what == "transit/keys":
            return 200, {"data": {"type": "aes256-gcm96", "derived": False}}
        # What is wrapped has the key's name before it, in place of encryption.
        if what == "transit/datakey/plaintext":
            self.made[key] = self.made.get(key, 0) + 1
            plaintext = os.urandom(32)
            return 200, {"data": {"plaintext": base64.b64encode(plaintext).decode(),
                                  "ciphertext": "vault:v1:" + base64.b64encode(key.encode() + plaintext).decode()}}
        assert what == "transit/decrypt", path
        results = []
        for item in asked["batch_input"]:
            wrapped = base64.b64decode(item["ciphertext"].removeprefix("vault:v1:"))
            plaintext = wrapped.removeprefix(key.encode())
            good = {"plaintext": base64.b64encode(plaintext).decode()}
            bad = {"error": "cipher: message authentication failed"}
            results.append({"reference": item["reference"], **(good if len(plaintext) == 32 else bad)})
        return 200, {"data": {"batch_results": results}}
