// Verifies a token a line by the published key set, with jose; prints `good`, or why not.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.JWT_VERIFIERS}/node_modules/`);
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(require.resolve("jose")));

const [url, algorithm, issuer, audience, kept] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(url), { cacheMaxAge: Number(kept) * 1000, cooldownDuration: 0 });
for await (const token of createInterface({ input: process.stdin })) {
  const answer = await jwtVerify(token, keys, { algorithms: [algorithm], issuer, audience, typ: "at+jwt" }).then(
    () => "good",
    (error) => `${error.code}: ${error.message}`,
  );
  console.log(answer);
}
