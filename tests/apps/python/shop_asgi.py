"""The same paths as an ASGI application, for uvicorn."""

import asyncio


async def body_of(receive):
    received = b""
    while True:
        message = await receive()
        received += message.get("body", b"")
        if not message.get("more_body"):
            return received


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path, method = scope["path"], scope["method"]
    received = await body_of(receive)

    async def answer(status, body=b""):
        headers = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if status == 204 else body})

    if path == "/ok":
        await answer(200, b"fine\n")
    elif path.startswith("/items/"):
        await answer(204 if method == "DELETE" else 200, b"an item\n")
    elif path == "/orders":
        await answer(201, b"%d bytes\n" % len(received))
    elif path == "/slow":
        await asyncio.sleep(0.02)
        await answer(200, b"slow\n")
    elif path == "/busy":
        await asyncio.sleep(0.04)
        await answer(503)
    elif path == "/fail":
        await answer(500)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"piece\n", "more_body": True})
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b""})
    else:
        await answer(404, b"no such thing\n")
