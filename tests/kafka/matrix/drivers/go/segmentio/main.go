// The driver of segmentio/kafka-go. It translates the names of settings that Kafka has into the fields of its Writer and Reader.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"kveil/matrix/lines"
)

var background = context.Background()

var codecs = map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}

var acks = map[string]kafka.RequiredAcks{"0": kafka.RequireNone, "1": kafka.RequireOne, "all": kafka.RequireAll}

func main() {
	lines.Drive("github.com/segmentio/kafka-go", produce, follow)
}

func produce(settings *lines.Settings) {
	writer := &kafka.Writer{Addr: kafka.TCP(settings.Bootstrap)}
	if codec := settings.Take("compression.type"); codec != "" {
		writer.Compression = codecs[codec]
	}
	if level := settings.Take("acks"); level != "" {
		writer.RequiredAcks = acks[level]
	}
	if trusted := settings.TakeTLS(); trusted != nil {
		writer.Transport = &kafka.Transport{TLS: trusted}
	}
	settings.AllTaken()
	input := lines.Input()
	for told := range input {
		if told.Do != "" {
			continue // What came before a flush has been written.
		}
		batch := []kafka.Message{message(told)}
		if told.Partition != nil {
			writer.Balancer = kafka.BalancerFunc(func(message kafka.Message, _ ...int) int { return message.WriterData.(int) })
		}
		for waiting := true; waiting && len(batch) < 100; {
			select {
			case more, open := <-input:
				if waiting = open && more.Do == ""; waiting {
					batch = append(batch, message(more))
				}
			case <-time.After(20 * time.Millisecond):
				waiting = false
			}
		}
		write(writer, batch)
	}
	lines.Check(writer.Close())
}

func message(told lines.Told) kafka.Message {
	made := kafka.Message{Topic: told.Topic, Key: told.Key, Value: told.Value}
	if told.Partition != nil {
		made.WriterData = int(*told.Partition)
	}
	for _, header := range told.Headers {
		made.Headers = append(made.Headers, kafka.Header{Key: header.Name, Value: header.Value})
	}
	return made
}

// It does not tell the offsets.
func write(writer *kafka.Writer, batch []kafka.Message) {
	err := writer.WriteMessages(background, batch...)
	var each kafka.WriteErrors
	if !errors.As(err, &each) {
		each = make(kafka.WriteErrors, len(batch))
		for number := range each {
			each[number] = err
		}
	}
	for _, err := range each {
		if err != nil {
			lines.AnswerError(code(err), err)
		} else {
			lines.AnswerDelivered(-1, -1)
		}
	}
}

func follow(settings *lines.Settings) {
	closed := lines.Closed()
	config := kafka.ReaderConfig{Brokers: []string{settings.Bootstrap}, Topic: settings.Topic, StartOffset: kafka.FirstOffset,
		GroupID: settings.Take("group.id"), MaxWait: 500 * time.Millisecond} // Ten seconds otherwise, also for its Close.
	if bytes := settings.TakeNumber("fetch.bytes"); bytes >= 0 {
		config.MinBytes, config.MaxBytes = int(bytes), int(bytes)
	}
	if trusted := settings.TakeTLS(); trusted != nil {
		config.Dialer = &kafka.Dialer{TLS: trusted, Timeout: 10 * time.Second, DualStack: true}
	}
	offset, milliseconds := settings.TakeNumber("from.offset"), settings.TakeNumber("from.time")
	settings.AllTaken()
	reader := kafka.NewReader(config)
	if offset >= 0 {
		lines.Check(reader.SetOffset(offset))
	} else if milliseconds >= 0 {
		lines.Check(reader.SetOffsetAt(background, time.UnixMilli(milliseconds)))
	}
	until, end := context.WithCancel(background)
	go func() {
		<-closed
		end()
	}()
	for until.Err() == nil {
		read(until, reader, config.GroupID != "")
	}
	lines.Check(reader.Close())
	lines.AnswerEnd()
}

func read(until context.Context, reader *kafka.Reader, commit bool) {
	message, err := reader.FetchMessage(until)
	if err != nil {
		if until.Err() == nil {
			lines.AnswerError(code(err), err)
			time.Sleep(time.Second)
		}
		return
	}
	record := lines.Record{Partition: int32(message.Partition), Offset: message.Offset, Timestamp: message.Time.UnixMilli(),
		Key: message.Key, Value: message.Value, Headers: []lines.Header{}}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, lines.Header{Name: header.Key, Value: header.Value})
	}
	lines.Answer(record)
	if commit {
		lines.Check(reader.CommitMessages(background, message))
	}
}

func code(err error) int {
	var known kafka.Error
	if errors.As(err, &known) {
		return int(known)
	}
	return -1
}
