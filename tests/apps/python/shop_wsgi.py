"""The same paths as a WSGI application, for gunicorn."""

import time

WORDS = {200: "200 OK", 201: "201 Created", 204: "204 No Content", 404: "404 Not Found",
         500: "500 Internal Server Error", 503: "503 Service Unavailable"}


def pieces():
    for _ in range(3):
        yield b"piece\n"
        time.sleep(0.005)


def app(environ, start_response):
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    received = environ["wsgi.input"].read()

    def answer(status, body=b""):
        headers = [] if status == 204 else [("Content-Length", str(len(body)))]
        start_response(WORDS[status], headers)
        return [] if status == 204 or method == "HEAD" else [body]

    if path == "/ok":
        return answer(200, b"fine\n")
    if path.startswith("/items/"):
        return answer(204 if method == "DELETE" else 200, b"an item\n")
    if path == "/orders":
        return answer(201, b"%d bytes\n" % len(received))
    if path == "/slow":
        time.sleep(0.02)
        return answer(200, b"slow\n")
    if path == "/busy":
        time.sleep(0.04)
        return answer(503)
    if path == "/fail":
        return answer(500)
    if path == "/stream":
        start_response(WORDS[200], [])
        return pieces()
    return answer(404, b"no such thing\n")
