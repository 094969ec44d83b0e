// One Node.js client library against a running Clockwise: `node check.js LIBRARY MODE PORT`.
//
// LIBRARY is a dependency of package.json; MODE is
//   plain      one connection to a front port: 10,000 keys, pipelined, binary values, errors
//   cluster    a cluster client that was told one front port: 10,000 keys to their owners and back
//   interrupt  cluster client that writes KEYS keys, prints "halfway" in the middle (the caller then does
//              something to the cluster), and reads all acknowledged keys back
//   steady     cluster client that writes keys and reads each at once, until standard input ends; prints
//              "going" when it has begun
// The last line is a JSON object of what was counted. Exits with 1 and a reason if something is wrong.
"use strict";

const KEYS = 10000;
const BATCH = 500;
const WRITERS = 16;

const [library, mode, portText] = process.argv.slice(2);
const address = { host: "127.0.0.1", port: Number(portText) };
const binary = Buffer.from([0, 13, 10, 255, 128, 36, 42]);

function ensure(condition, what) {
  if (!condition) throw new Error(what);
}

// The two families of libraries under one small interface; batch() sends commands in one go and
// answers their replies in order.
async function openIoredis(module, cluster) {
  const options = { maxRetriesPerRequest: 5, retryStrategy: (n) => Math.min(n * 20, 200) };
  const client = cluster
    ? new module.Cluster([address], { redisOptions: options, clusterRetryStrategy: () => 50 })
    : new module({ ...address, ...options });
  client.on("error", () => {});
  await new Promise((resolve, reject) => {
    client.once("ready", resolve);
    setTimeout(() => reject(new Error("not ready after 30 s")), 30000).unref();
  });
  return {
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    getBuffer: (key) => client.getBuffer(key),
    del: (key) => client.del(key),
    ttl: (key) => client.pttl(key),
    setWithExpiry: (key, value, ms) => client.set(key, value, "PX", ms),
    mget: (keys) => client.mget(...keys),
    batch: (commands) => Promise.all(commands.map(([name, ...words]) => client[name](...words))),
    refused: () => client.incr("counter"),
    close: () => client.disconnect(),
  };
}

async function openNodeRedis(module, cluster) {
  const socket = { ...address, reconnectStrategy: (n) => Math.min(n * 20, 200) };
  const client = cluster
    ? module.createCluster({
        rootNodes: [{ socket: address }],
        defaults: { socket: { reconnectStrategy: (n) => Math.min(n * 20, 200) } },
      })
    : module.createClient({ socket });
  client.on("error", () => {});
  await client.connect();
  const buffers = () => {
    if (module.RESP_TYPES === undefined) return client.get(module.commandOptions({ returnBuffers: true }), "binary");
    return client.withTypeMapping({ [module.RESP_TYPES.BLOB_STRING]: Buffer }).get("binary");
  };
  return {
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    getBuffer: buffers,
    del: (key) => client.del(key),
    ttl: (key) => client.pTTL(key),
    setWithExpiry: (key, value, ms) => client.set(key, value, { PX: ms }),
    mget: (keys) => client.mGet(keys),
    batch: (commands) => Promise.all(commands.map(([name, ...words]) => client[name](...words))),
    refused: () => client.incr("counter"),
    close: () => (client.destroy ? client.destroy() : client.disconnect()),
  };
}

async function open(cluster) {
  const module = require(library);
  return library.startsWith("ioredis") ? openIoredis(module, cluster) : openNodeRedis(module, cluster);
}

async function writeAndRead(client, prefix) {
  for (let i = 0; i < KEYS; i += BATCH) {
    const range = Array.from({ length: BATCH }, (_, j) => i + j);
    const acks = await client.batch(range.map((n) => ["set", `${prefix}${n}`, `value ${n}`]));
    ensure(acks.every((ack) => ack === "OK"), "a SET was not answered with OK");
  }
  for (let i = 0; i < KEYS; i += BATCH) {
    const range = Array.from({ length: BATCH }, (_, j) => i + j);
    const values = await client.batch(range.map((n) => ["get", `${prefix}${n}`]));
    values.forEach((value, j) => ensure(value === `value ${i + j}`, `${prefix}${i + j} is ${value}`));
  }
}

async function basics(client) {
  ensure((await client.set("binary", binary)) === "OK", "SET of a binary value");
  ensure(binary.equals(await client.getBuffer("binary")), "binary value came back changed");
  ensure((await client.get("no such key")) === null, "a missing key is null");
  ensure((await client.setWithExpiry("short", "v", 100000)) === "OK", "SET PX");
  const left = await client.ttl("short");
  ensure(left > 0 && left <= 100000, `PTTL says ${left}`);
  ensure((await client.del("binary")) === 1, "DEL of a key that is there");
  ensure((await client.get("binary")) === null, "a deleted key is gone");
  const error = await client.refused().then(() => null, (reason) => reason);
  ensure(error !== null, "INCR must be refused");
}

async function plain() {
  const client = await open(false);
  await basics(client);
  await writeAndRead(client, `${library}:plain:`);
  const values = await client.mget([1, 2, 3].map((n) => `${library}:plain:${n}`));
  ensure(values.join() === "value 1,value 2,value 3", `MGET says ${values}`);
  client.close();
  return { keys: KEYS };
}

async function cluster() {
  const client = await open(true);
  await basics(client);
  await writeAndRead(client, `${library}:cluster:`);
  client.close();
  return { keys: KEYS };
}

async function interrupt() {
  const client = await open(true);
  const acknowledged = [];
  let next = 0;
  let failed = 0;
  async function writer() {
    while (next < KEYS) {
      const n = next++;
      if (n === KEYS / 2) console.log("halfway");
      // The library retries by itself what it knows how to retry; the rest is counted.
      await client.set(`${library}:interrupt:${n}`, `value ${n}`).then(
        () => acknowledged.push(n),
        () => failed++,
      );
    }
  }
  await Promise.all(Array.from({ length: WRITERS }, writer));
  let lost = 0;
  for (const n of acknowledged) {
    let value;
    for (let attempt = 0; attempt < 20 && value === undefined; attempt++) {
      value = await client.get(`${library}:interrupt:${n}`).catch(() => undefined);
    }
    if (value !== `value ${n}`) lost++;
  }
  client.close();
  return { acknowledged: acknowledged.length, failed, lost };
}

async function steady() {
  const client = await open(true);
  let ended = false;
  let next = 0;
  const counts = { acknowledged: 0, failed: 0, wrong: 0 };
  const reasons = new Set();
  process.stdin.on("end", () => (ended = true)).resume();
  async function writer() {
    while (!ended) {
      const n = next++;
      if (n === WRITERS) console.log("going");
      const key = `${library}:steady:${n % KEYS}:${n}`;
      try {
        await client.set(key, `value ${n}`);
        counts.acknowledged++;
        if ((await client.get(key)) !== `value ${n}`) counts.wrong++;
      } catch (reason) {
        counts.failed++;
        reasons.add(String(reason));
      }
    }
  }
  await Promise.all(Array.from({ length: WRITERS }, writer));
  client.close();
  return { ...counts, reasons: [...reasons].slice(0, 5) };
}

const modes = { plain, cluster, interrupt, steady };
modes[mode]()
  .then((result) => {
    console.log(JSON.stringify(result));
    process.exit(0);
  })
  .catch((error) => {
    console.error(`${library} ${mode}: ${error.stack}`);
    process.exit(1);
  });
