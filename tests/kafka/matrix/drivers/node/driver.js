// The driver of kafkajs. It translates the names of settings that Kafka has into kafkajs' options. The contract is in
// ../../README.md.
"use strict";

const fs = require("fs");
const readline = require("readline");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const ACKS = { 0: 0, 1: 1, all: -1 };
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP };

function answer(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function answerError(error) {
  const cause = error.cause && error.cause.code !== undefined ? error.cause : error;
  answer({ error: typeof cause.code === "number" ? cause.code : -1, message: String(error) });
}

const encoded = (bytes) => (bytes === null || bytes === undefined ? null : bytes.toString("base64"));
const decoded = (text) => (text === null || text === undefined ? null : Buffer.from(text, "base64"));

function settingsOf(words) {
  return Object.fromEntries(words.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]));
}

function messageOf(told) {
  const headers = {};
  for (const [name, value] of told.headers || []) headers[name] = decoded(value);
  const message = { key: decoded(told.key), value: decoded(told.value), headers };
  if (told.partition !== undefined) message.partition = told.partition;
  return message;
}

// One send after the other, each with what has been told until then.
class Sender {
  constructor(producer, settings) {
    this.target = producer;
    this.options = { acks: ACKS[settings.acks || "all"] };
    if (settings["compression.type"]) this.options.compression = CODECS[settings["compression.type"]];
    this.waiting = [];
    this.running = Promise.resolve();
  }

  push(told) {
    this.waiting.push(told);
    if (this.waiting.length === 1) this.running = this.running.then(() => this.send());
  }

  async send() {
    const batch = this.waiting;
    this.waiting = [];
    const topic = batch[0].topic;
    try {
      const stored = await this.target.send({ topic, messages: batch.map(messageOf), ...this.options });
      const offsets = new Map(stored.map((part) => [part.partition, Number(part.baseOffset ?? -1)]));
      for (const told of batch) {
        const partition = told.partition ?? (stored.length === 1 ? stored[0].partition : -1);
        const offset = offsets.get(partition) ?? -1;
        if (offset >= 0) offsets.set(partition, offset + 1);
        answer({ partition, offset });
      }
    } catch (error) {
      batch.forEach(() => answerError(error));
    }
  }
}

async function produce(kafka, settings) {
  const transactionalId = settings["transactional.id"];
  const idempotent = settings["enable.idempotence"] === "true" || transactionalId !== undefined;
  const options = idempotent ? { idempotent, maxInFlightRequests: 1 } : {};
  const producer = kafka.producer(transactionalId ? { ...options, transactionalId } : options);
  await producer.connect();
  const sender = new Sender(producer, settings);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const told = JSON.parse(line);
    if (!told.do) {
      sender.push(told);
      continue;
    }
    await sender.running;
    if (told.do === "begin") sender.target = await producer.transaction();
    if (told.do === "commit") await sender.target.commit();
    if (told.do === "abort") await sender.target.abort();
  }
  await sender.running;
  await producer.disconnect();
}

async function startsOf(kafka, topic, settings) {
  if (settings["from.offset"] !== undefined) {
    return [{ partition: 0, offset: settings["from.offset"] }];
  }
  if (settings["from.time"] === undefined) return [];
  const admin = kafka.admin();
  await admin.connect();
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, Number(settings["from.time"]));
  await admin.disconnect();
  return found;
}

async function follow(kafka, topic, settings) {
  const closed = new Promise((resolve) => process.stdin.on("end", resolve).resume());
  const options = { groupId: settings["group.id"] || `alone-${process.pid}-${topic}` };
  if (settings["fetch.bytes"]) {
    options.maxBytes = options.maxBytesPerPartition = Number(settings["fetch.bytes"]);
  }
  if (settings["isolation.level"] === "read_uncommitted") options.readUncommitted = true;
  const consumer = kafka.consumer(options);
  consumer.on(consumer.events.CRASH, (event) => event.payload.restart || answerError(event.payload.error));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const starts = await startsOf(kafka, topic, settings);
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      const headers = Object.entries(message.headers || {}).flatMap(([name, values]) =>
        [values].flat().map((value) => [name, encoded(value)]));
      answer({ partition, offset: Number(message.offset), timestamp: Number(message.timestamp), key: encoded(message.key),
        value: encoded(message.value), headers });
    },
  });
  for (const { partition, offset } of starts) consumer.seek({ topic, partition, offset });
  await closed;
  await consumer.disconnect();
  answer({ end: { position: {} } });
}

async function main([command, bootstrap, ...rest]) {
  if (command === "version") {
    answer({ version: `kafkajs ${require("kafkajs/package.json").version}` });
    return;
  }
  const topic = command === "follow" ? rest.shift() : undefined;
  const settings = settingsOf(rest);
  const options = { brokers: [bootstrap], logLevel: logLevel.NOTHING };
  if (settings["security.protocol"] === "SSL") options.ssl = { ca: [fs.readFileSync(settings["ssl.ca.location"])] };
  const kafka = new Kafka(options);
  if (command === "produce") {
    await produce(kafka, settings);
  } else {
    await follow(kafka, topic, settings);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
