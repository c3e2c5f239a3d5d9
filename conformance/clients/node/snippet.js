// A headless Chromium with somebody's page. Prints what that logs. Arguments: its URL, and how many lines to wait for.

"use strict";

const { withPage } = require("./browser.js");

const [url, count] = process.argv.slice(2);

withPage(async (page) => {
  let left = Number(count);
  const done = new Promise((resolve) => {
    page.on("console", (message) => {
      console.log(message.text());
      if (--left === 0) resolve();
    });
  });
  await page.goto(url);
  await done;
});
