// A bot as a program of Node that parses the target as a URL: 401 under `/internal`, 200 elsewhere. Prints its port.
"use strict";
const http = require("node:http");

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://bot");
  response.statusCode = /^\/internal(\/|$)/.test(pathname) ? 401 : 200;
  response.end();
});
server.on("clientError", (error, socket) => socket.destroy());
process.on("uncaughtException", () => server.closeAllConnections()); // a target that is no URL
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
