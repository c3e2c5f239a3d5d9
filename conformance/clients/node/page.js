// A headless Chromium with the demo page of the broker. Prints what the page shows, a line for each change.
// Arguments: the page's URL, and the bodies to wait for; a body of "-" waits for the connection to be lost.

"use strict";

const path = require("node:path");
const { chromium } = require("playwright-core");

const [url, ...expected] = process.argv.slice(2);
const dist = path.join(process.env.NODE_PATH, "@cloudamqp", "amqp-client", "dist");

(async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.log(`error: ${error.message}`));
  // What the page would load from elsewhere comes from the installed package: tests need no network.
  await page.route("https://cdn.jsdelivr.net/**", (route) =>
    route.fulfill({
      path: path.join(dist, path.basename(new URL(route.request().url()).pathname)),
      contentType: "text/javascript",
      headers: { "Access-Control-Allow-Origin": "*" },
    }),
  );
  const until = (selector, text) =>
    page.waitForFunction(
      ([where, what]) => document.querySelector(where)?.textContent.includes(what),
      [selector, text],
      { timeout: 20_000 },
    );
  await page.goto(url);
  await page.click("button");
  await until("#state", "subscribed");
  console.log("subscribed");
  for (const body of expected) {
    if (body === "-") {
      await until("#state", "disconnected");
      console.log("disconnected");
      await until("#state", "subscribed");
      console.log("subscribed");
    } else {
      await until("#messages li", body);
      console.log(await page.textContent("#messages li"));
    }
  }
  await browser.close();
})().catch((error) => {
  console.log(`error: ${error.stack}`);
  process.exit(1);
});
