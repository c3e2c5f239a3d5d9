// A headless Chromium with the demo page of the broker. Prints what the page shows, a line for each step.
// Arguments: the page's URL, amqp or stomp, a binding key, a file for a screenshot of the end, and steps: "wait BODY" for
// a message, "count N" for so many, "lost" until the connection was lost and is there again, "publish KEY" with the page's
// own form, "columns" to see where the bodies begin.

"use strict";

const { withPage } = require("./browser.js");

const [url, protocol, key, screenshot, ...steps] = process.argv.slice(2);

withPage(async (page) => {
  const until = (selector, text) =>
    page.waitForFunction(
      ([where, what]) => document.querySelector(where)?.textContent.includes(what),
      [selector, text],
      { timeout: 20_000 },
    );
  await page.goto(url);
  await page.click(`.choice input[value="${protocol}"] + span`);
  await page.fill("#subscribe [name=key]", key);
  await page.click("#connect");
  await until("#state", "subscribed");
  console.log("subscribed");
  for (const step of steps) {
    const [, word, argument] = /^(\S+) ?(.*)$/.exec(step);
    if (word === "lost") {
      await until("#state", "reconnecting");
      console.log("reconnecting");
      await until("#state", "subscribed");
      console.log("subscribed");
    } else if (word === "count") {
      await until("#count", argument);
      console.log(`${await page.textContent("#count")} messages`);
    } else if (word === "columns") {
      const lefts = (bodies) => new Set(bodies.map((body) => body.getBoundingClientRect().left)).size;
      console.log(`${await page.$$eval("#messages .body", lefts)} columns of bodies`);
    } else {
      if (word === "publish") {
        await page.fill("#publish [name=key]", argument);
        await page.click("#publish button");
      }
      await until("#messages li", word === "publish" ? "world" : argument);
      const shown = ["key", "body"].map((part) => page.textContent(`#messages li .${part}`));
      console.log((await Promise.all(shown)).join(": "));
    }
  }
  await page.screenshot({ path: screenshot });
});
