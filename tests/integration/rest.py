"""A client of the REST API for tests that ask much: one connection a request, answers as they are."""

import http.client
import json
import socket


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout_s=20.0):
        super().__init__("localhost", timeout=timeout_s)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)  # waits while the daemon's queue is full; with a time limit it would give up
        self.sock.settimeout(self.timeout)


class Rest:
    def __init__(self, path):
        self.path = path

    def ask(self, method, target, body=None):
        """(status, parsed body or None) of a request; `body`: text as it is, everything else as JSON."""
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        connection = UnixConnection(self.path)
        try:
            connection.request(method, target, text)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content else None
        finally:
            connection.close()

    def get(self, target):
        status, answer = self.ask("GET", target)
        assert status == 200, f"GET {target}: {status} {answer}"
        return answer

    def do(self, method, target, body=None):
        """The answer of a request that must work."""
        status, answer = self.ask(method, target, body)
        assert status in (200, 201, 204), f"{method} {target} {body}: {status} {answer}"
        return answer
