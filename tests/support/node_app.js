// A bot as a program of Node that parses the target as a URL: 401 under `/internal`, 200 elsewhere. Prints its port.
"use strict";
const http = require("node:http");

const server = http.createServer((request, response) => {
  const isUrl = URL.canParse(request.url, "http://bot");
  const path = isUrl ? new URL(request.url, "http://bot").pathname : "";
  response.statusCode = /^\/internal(\/|$)/.test(path) ? 401 : isUrl ? 200 : 400;
  response.end();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
