// A headless Chromium that gets client libraries from the installed packages: tests need no network.

"use strict";

const path = require("node:path");
const { chromium } = require("playwright-core");

/** Call `visit(page)` with a page; print what goes wrong, there or in the page, and exit non-zero. */
exports.withPage = async (visit) => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
    page.on("pageerror", (error) => console.log(`error: ${error.message}`));
    await page.route("https://cdn.jsdelivr.net/**", (route) => {
      const [, name, file] = new URL(route.request().url()).pathname.match(/^\/npm\/(@[^/]+\/[^@]+)@[^/]+\/(.+)$/);
      route.fulfill({
        path: path.join(process.env.NODE_PATH, name, file),
        contentType: "text/javascript",
        headers: { "Access-Control-Allow-Origin": "*" },
      });
    });
    await visit(page);
  } catch (error) {
    console.log(`error: ${error.stack}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
};
