// A bot as an Express application: 401 under `/internal`, 200 elsewhere. Prints its port when it listens.
"use strict";
const express = require("express");

const app = express();
app.use("/internal", (request, response) => response.status(401).send("internal"));
app.use((request, response) => response.send("a page"));
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
