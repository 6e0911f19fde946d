// The driver of franz-go. It translates the names of settings that Kafka has into franz-go's options.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kveil/matrix/lines"
)

var background = context.Background()

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func main() {
	lines.Drive("github.com/twmb/franz-go", produce, follow)
}

func produce(settings *lines.Settings) {
	options := []kgo.Opt{kgo.SeedBrokers(settings.Bootstrap)}
	if codec := settings.Take("compression.type"); codec != "" {
		options = append(options, kgo.ProducerBatchCompression(codecs[codec]))
	}
	switch settings.Take("acks") {
	case "0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	if settings.Take("enable.idempotence") == "false" {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if id := settings.Take("transactional.id"); id != "" {
		options = append(options, kgo.TransactionalID(id))
	}
	if linger := settings.TakeNumber("linger.ms"); linger >= 0 {
		options = append(options, kgo.ProducerLinger(time.Duration(linger)*time.Millisecond))
	}
	if config := settings.TakeTLS(); config != nil {
		options = append(options, kgo.DialTLSConfig(config))
	}
	settings.AllTaken()
	var producer *kgo.Client // Made when the first line tells whether records name their partitions.
	var results []*result
	for told := range lines.Input() {
		if producer == nil {
			if told.Partition != nil {
				options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
			}
			producer = newClient(options)
		}
		switch told.Do {
		case "begin":
			lines.Check(producer.BeginTransaction())
		case "commit", "abort":
			lines.Check(producer.Flush(background))
			lines.Check(producer.EndTransaction(background, kgo.TransactionEndTry(told.Do == "commit")))
		case "flush":
			results = report(producer, results)
		default:
			results = append(results, send(producer, told))
		}
	}
	if producer != nil {
		report(producer, results)
		producer.Close()
	}
}

type result struct {
	record *kgo.Record
	err    error
}

func send(producer *kgo.Client, told lines.Told) *result {
	record := &kgo.Record{Topic: told.Topic, Key: told.Key, Value: told.Value}
	if told.Partition != nil {
		record.Partition = *told.Partition
	}
	for _, header := range told.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
	}
	sent := &result{}
	producer.Produce(background, record, func(stored *kgo.Record, err error) { sent.record, sent.err = stored, err })
	return sent
}

func report(producer *kgo.Client, results []*result) []*result {
	lines.Check(producer.Flush(background))
	for _, result := range results {
		if result.err != nil {
			lines.AnswerError(code(result.err), result.err)
		} else {
			lines.AnswerDelivered(result.record.Partition, result.record.Offset)
		}
	}
	return nil
}

func follow(settings *lines.Settings) {
	closed := lines.Closed()
	group := settings.Take("group.id")
	options := []kgo.Opt{kgo.SeedBrokers(settings.Bootstrap), kgo.ConsumeTopics(settings.Topic), kgo.ConsumeResetOffset(start(settings))}
	if group != "" {
		options = append(options, kgo.ConsumerGroup(group), kgo.DisableAutoCommit())
	}
	if bytes := settings.TakeNumber("fetch.bytes"); bytes >= 0 {
		options = append(options, kgo.FetchMaxBytes(int32(bytes)), kgo.FetchMaxPartitionBytes(int32(bytes)))
	}
	if settings.Take("isolation.level") == "read_committed" {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if config := settings.TakeTLS(); config != nil {
		options = append(options, kgo.DialTLSConfig(config))
	}
	settings.AllTaken()
	consumer := newClient(options)
	for open := true; open; {
		select {
		case <-closed:
			open = false
		default:
			poll(consumer, group != "")
		}
	}
	if group != "" {
		lines.Check(consumer.CommitUncommittedOffsets(background))
		consumer.LeaveGroup()
	}
	lines.AnswerEnd()
	consumer.Close()
}

func start(settings *lines.Settings) kgo.Offset {
	if offset := settings.TakeNumber("from.offset"); offset >= 0 {
		return kgo.NewOffset().At(offset)
	}
	if milliseconds := settings.TakeNumber("from.time"); milliseconds >= 0 {
		return kgo.NewOffset().AfterMilli(milliseconds)
	}
	return kgo.NewOffset().AtStart()
}

func poll(consumer *kgo.Client, commit bool) {
	limit, cancel := context.WithTimeout(background, 100*time.Millisecond)
	defer cancel()
	fetches := consumer.PollFetches(limit)
	fetches.EachError(func(_ string, _ int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) {
			lines.AnswerError(code(err), err)
		}
	})
	fetches.EachRecord(func(record *kgo.Record) {
		answer := lines.Record{Partition: record.Partition, Offset: record.Offset, Timestamp: record.Timestamp.UnixMilli(),
			Key: record.Key, Value: record.Value, Headers: []lines.Header{}}
		for _, header := range record.Headers {
			answer.Headers = append(answer.Headers, lines.Header{Name: header.Key, Value: header.Value})
		}
		lines.Answer(answer)
	})
	if commit && fetches.NumRecords() > 0 {
		lines.Check(consumer.CommitUncommittedOffsets(background))
	}
}

func newClient(options []kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(options...)
	lines.Check(err)
	return client
}

func code(err error) int {
	var known *kerr.Error
	if errors.As(err, &known) {
		return int(known.Code)
	}
	return -1
}
