"""Serves the paths that all servers under test know, with the http.server of the standard library."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are sent apart: the second would wait for the client's delayed acknowledgement, 40 ms.
    disable_nagle_algorithm = True

    def answer(self, status, body=b""):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"6\r\npiece\n\r\n")
            time.sleep(0.005)
        self.wfile.write(b"0\r\n\r\n")

    def shop(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = self.path.split("?")[0]
        if path == "/ok":
            self.answer(200, b"fine\n")
        elif path.startswith("/items/"):
            self.answer(204 if self.command == "DELETE" else 200, b"an item\n")
        elif path == "/orders":
            self.answer(201, b"%d bytes\n" % len(body))
        elif path == "/slow":
            time.sleep(0.02)
            self.answer(200, b"slow\n")
        elif path == "/busy":
            time.sleep(0.04)
            self.answer(503)
        elif path == "/fail":
            self.answer(500)
        elif path == "/stream":
            self.stream()
        else:
            self.answer(404, b"no such thing\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = shop

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    host, port = sys.argv[1].rsplit(":", 1)
    ThreadingHTTPServer((host, int(port)), Shop).serve_forever()
