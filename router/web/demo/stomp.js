import { Client } from "https://cdn.jsdelivr.net/npm/@stomp/stompjs@7.5.0/esm6/index.js";

export function subscribe({ url, user, password, vhost, exchange, key, show, tell }) {
  const place = (key) => `/exchange/${[exchange, key].map(encodeURIComponent).join("/")}`;
  const client = new Client({ brokerURL: `${url}/ws/stomp`, reconnectDelay: 1000 });
  client.connectHeaders = { login: user, passcode: password, host: vhost };
  client.onConnect = () => { // again after each reconnect
    const headers = { ack: "client-individual", "prefetch-count": "100", receipt: "bound" };
    client.watchForReceipt("bound", () => tell("subscribed"));
    client.subscribe(place(key), (m) => (show(routingKey(m.headers.destination), m.body), m.ack()), headers);
  };
  client.onWebSocketClose = () => tell("reconnecting");
  client.onStompError = (frame) => tell(`refused: ${frame.body}`);
  client.activate();
  return { publish: (key, body) => client.publish({ destination: place(key), body }), stop: () => client.deactivate() };
}

const routingKey = (destination) => decodeURIComponent(destination.split("/").pop());
