// The driver of sarama. It translates the names of settings that Kafka has into sarama's configuration.
package main

import (
	"context"
	"errors"

	"github.com/IBM/sarama"

	"kveil/matrix/lines"
)

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

var acks = map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}

func main() {
	lines.Drive("github.com/IBM/sarama", produce, follow)
}

func produce(settings *lines.Settings) {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	if codec := settings.Take("compression.type"); codec != "" {
		config.Producer.Compression = codecs[codec]
	}
	if level := settings.Take("acks"); level != "" {
		config.Producer.RequiredAcks = acks[level]
	}
	if retries := settings.TakeNumber("retries"); retries >= 0 {
		config.Producer.Retry.Max = int(retries)
	}
	id := settings.Take("transactional.id")
	if settings.Take("enable.idempotence") == "true" || id != "" {
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Net.MaxOpenRequests = 1
		config.Producer.Transaction.ID = id
	}
	if trusted := settings.TakeTLS(); trusted != nil {
		config.Net.TLS.Enable, config.Net.TLS.Config = true, trusted
	}
	settings.AllTaken()
	var producer sarama.AsyncProducer // Made when the first line tells whether records name their partitions.
	var pending []chan *sarama.ProducerError
	for told := range lines.Input() {
		if producer == nil {
			if told.Partition != nil {
				config.Producer.Partitioner = sarama.NewManualPartitioner
			}
			producer = newProducer(settings, config)
		}
		switch told.Do {
		case "begin":
			lines.Check(producer.BeginTxn())
		case "commit":
			pending = report(pending)
			lines.Check(producer.CommitTxn())
		case "abort":
			lines.Check(producer.AbortTxn())
		case "flush":
			pending = report(pending)
		default:
			message, result := message(told)
			producer.Input() <- message
			pending = append(pending, result)
		}
	}
	report(pending)
	if producer != nil {
		lines.Check(producer.Close())
	}
}

func newProducer(settings *lines.Settings, config *sarama.Config) sarama.AsyncProducer {
	producer, err := sarama.NewAsyncProducer([]string{settings.Bootstrap}, config)
	lines.Check(err)
	go func() {
		for message := range producer.Successes() {
			message.Metadata.(chan *sarama.ProducerError) <- &sarama.ProducerError{Msg: message}
		}
	}()
	go func() {
		for failure := range producer.Errors() {
			failure.Msg.Metadata.(chan *sarama.ProducerError) <- failure
		}
	}()
	return producer
}

func message(told lines.Told) (*sarama.ProducerMessage, chan *sarama.ProducerError) {
	result := make(chan *sarama.ProducerError, 1)
	made := &sarama.ProducerMessage{Topic: told.Topic, Metadata: result}
	if told.Partition != nil {
		made.Partition = *told.Partition
	}
	if told.Key != nil {
		made.Key = sarama.ByteEncoder(told.Key)
	}
	if told.Value != nil {
		made.Value = sarama.ByteEncoder(told.Value)
	}
	for _, header := range told.Headers {
		made.Headers = append(made.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
	}
	return made, result
}

func report(pending []chan *sarama.ProducerError) []chan *sarama.ProducerError {
	for _, result := range pending {
		done := <-result
		if done.Err != nil {
			lines.AnswerError(code(done.Err), done.Err)
		} else {
			lines.AnswerDelivered(done.Msg.Partition, done.Msg.Offset)
		}
	}
	return nil
}

func follow(settings *lines.Settings) {
	closed := lines.Closed()
	config := sarama.NewConfig()
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	if bytes := settings.TakeNumber("fetch.bytes"); bytes >= 0 {
		config.Consumer.Fetch.Default = int32(bytes)
	}
	if settings.Take("isolation.level") == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	group, offset, time := settings.Take("group.id"), settings.TakeNumber("from.offset"), settings.TakeNumber("from.time")
	if trusted := settings.TakeTLS(); trusted != nil {
		config.Net.TLS.Enable, config.Net.TLS.Config = true, trusted
	}
	settings.AllTaken()
	if group != "" {
		followInGroup(settings, group, config, closed)
	} else {
		followAlone(settings, offset, time, config, closed)
	}
	lines.AnswerEnd()
}

func followAlone(settings *lines.Settings, offset, time int64, config *sarama.Config, closed <-chan struct{}) {
	client, err := sarama.NewClient([]string{settings.Bootstrap}, config)
	lines.Check(err)
	consumer, err := sarama.NewConsumerFromClient(client)
	lines.Check(err)
	partitions, err := consumer.Partitions(settings.Topic)
	lines.Check(err)
	for _, partition := range partitions {
		start := offset
		if time >= 0 {
			start, err = client.GetOffset(settings.Topic, partition, time)
			lines.Check(err)
		} else if offset < 0 {
			start = sarama.OffsetOldest
		}
		reader, err := consumer.ConsumePartition(settings.Topic, partition, start)
		lines.Check(err)
		go func() {
			for message := range reader.Messages() {
				answer(message)
			}
		}()
		go func() {
			for failure := range reader.Errors() {
				lines.AnswerError(code(failure.Err), failure)
			}
		}()
	}
	<-closed
}

func followInGroup(settings *lines.Settings, group string, config *sarama.Config, closed <-chan struct{}) {
	consumer, err := sarama.NewConsumerGroup([]string{settings.Bootstrap}, group, config)
	lines.Check(err)
	go func() {
		for failure := range consumer.Errors() {
			lines.AnswerError(code(failure), failure)
		}
	}()
	until, end := context.WithCancel(context.Background())
	go func() {
		<-closed
		end()
	}()
	for until.Err() == nil {
		if err := consumer.Consume(until, []string{settings.Topic}, member{}); err != nil && until.Err() == nil {
			lines.AnswerError(code(err), err)
		}
	}
	lines.Check(consumer.Close())
}

// member of a group. It commits when it has read all that is there.
type member struct{}

func (member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		answer(message)
		session.MarkMessage(message, "")
		if len(claim.Messages()) == 0 {
			session.Commit()
		}
	}
	session.Commit()
	return nil
}

func answer(message *sarama.ConsumerMessage) {
	record := lines.Record{Partition: message.Partition, Offset: message.Offset, Timestamp: message.Timestamp.UnixMilli(),
		Key: message.Key, Value: message.Value, Headers: []lines.Header{}}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, lines.Header{Name: string(header.Key), Value: header.Value})
	}
	lines.Answer(record)
}

func code(err error) int {
	var known sarama.KError
	if errors.As(err, &known) {
		return int(known)
	}
	return -1
}
