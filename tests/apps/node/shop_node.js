// Serves the paths that all servers under test know, with Node's http module as it comes.
"use strict";
const http = require("node:http");

const wait = (millis) => new Promise((done) => setTimeout(done, millis));

async function shop(request, response) {
  let received = 0;
  for await (const piece of request) received += piece.length;
  const answer = (status, body = "") => {
    response.writeHead(status, status === 204 ? {} : { "Content-Length": Buffer.byteLength(body) });
    response.end(status === 204 ? undefined : body);
  };
  const path = request.url.split("?")[0];
  if (path === "/ok") answer(200, "fine\n");
  else if (path.startsWith("/items/")) answer(request.method === "DELETE" ? 204 : 200, "an item\n");
  else if (path === "/orders") answer(201, `${received} bytes\n`);
  else if (path === "/slow") { await wait(21); answer(200, "slow\n"); }
  else if (path === "/busy") { await wait(41); answer(503); }
  else if (path === "/fail") answer(500);
  else if (path === "/stream") {
    response.writeHead(200);
    for (let i = 0; i < 3; i++) { response.write("piece\n"); await wait(6); }
    response.end();
  } else answer(404, "no such thing\n");
}

const [host, port] = process.argv[2].split(":");
http.createServer(shop).listen(Number(port), host);
