// Swagger UI over this server's own description. It takes no settings from the address, sends nothing to a
// validator elsewhere, and forgets credentials when the page is closed.
"use strict";
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  queryConfigEnabled: false,
  validatorUrl: "none",
  persistAuthorization: false,
  withCredentials: false,
});
