// ReDoc over this server's own description.
"use strict";
Redoc.init("openapi.json", { hideDownloadButton: false, expandResponses: "200" }, document.getElementById("page"));
