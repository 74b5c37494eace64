// An OIDC issuer (oidc-provider) for one client and the resources that it asks tokens for.
//
// node issuer.mjs NODE_MODULES CLIENT_ID: prints its address, then obeys a line each on standard input and prints
// `done`: `rotate RS256` or `rotate ES256` signs with a new key from then on and still publishes the one before;
// `forget` publishes the newest alone.

import { createServer } from "node:http";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, client] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`));

function key(alg) {
  const pair =
    alg === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...pair.privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg };
}

const server = createServer((request, response) => handle(request, response));
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const address = `http://127.0.0.1:${server.address().port}`;

let handle;
function serve(keys) {
  const provider = new Provider(address, {
    jwks: { keys },
    clients: [
      {
        client_id: client,
        client_secret: "a secret of the tests",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: keys[0].alg,
      },
    ],
    scopes: ["read", "write", "delete", "list"],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_, resource) => ({
          scope: "read write delete list",
          audience: resource,
          accessTokenFormat: "jwt",
          accessTokenTTL: 300,
          jwt: { sign: { alg: keys[0].alg } },
        }),
      },
    },
  });
  handle = provider.callback();
}

let keys = [key("RS256")];
serve(keys);
console.log(address);
for await (const line of createInterface({ input: process.stdin })) {
  const [word, alg] = line.split(" ");
  keys = word === "rotate" ? [key(alg), keys[0]] : [keys[0]];
  serve(keys);
  console.log("done");
}
process.exit(0);
