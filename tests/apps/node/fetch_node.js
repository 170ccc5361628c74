// Requests each line of standard input ("METHOD URL STATUS") with fetch; another status is a failure.
"use strict";
const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);

(async () => {
  for (const line of lines) {
    const [method, url, status] = line.split(" ");
    const body = method === "POST" ? "an order of some length\n" : undefined;
    const response = await fetch(url, { method, body });
    await response.arrayBuffer();
    if (response.status !== Number(status)) {
      console.error(`${method} ${url}: status ${response.status}, expected ${status}`);
      process.exit(1);
    }
  }
})();
