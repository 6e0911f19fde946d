// Package lines has what the Go drivers have in common: the lines that they are told and answer. The contract is in
// ../../../README.md.
package lines

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// Header of a record, on the lines a pair.
type Header struct {
	Name  string
	Value []byte
}

// Told is a line of standard input: a record, or something to do.
type Told struct {
	Do        string
	Topic     string
	Partition *int32
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Record is what a following driver answers for each that it reads.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
}

func (h *Header) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&h.Name, &h.Value})
}

func (h Header) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{h.Name, h.Value})
}

// Settings are a driver's arguments. Take removes one, so that what is left at the end is unknown to the client.
type Settings struct {
	Bootstrap string
	Topic     string
	own       map[string]string
}

// Take gives a setting, or "".
func (s *Settings) Take(name string) string {
	value := s.own[name]
	delete(s.own, name)
	return value
}

// TakeNumber gives a setting, or -1.
func (s *Settings) TakeNumber(name string) int64 {
	text := s.Take(name)
	if text == "" {
		return -1
	}
	number, err := strconv.ParseInt(text, 10, 64)
	Check(err)
	return number
}

// TakeTLS gives what a connection over TLS trusts, or nil where the client is to speak plaintext.
func (s *Settings) TakeTLS() *tls.Config {
	file := s.Take("ssl.ca.location")
	if s.Take("security.protocol") != "SSL" {
		return nil
	}
	authority, err := os.ReadFile(file)
	Check(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	return &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
}

// AllTaken ends the driver when it was given a setting that it does not know.
func (s *Settings) AllTaken() {
	if len(s.own) != 0 {
		Check(fmt.Errorf("unknown settings %v", s.own))
	}
}

// Drive runs the command that the arguments name.
func Drive(module string, produce, follow func(*Settings)) {
	words := os.Args[2:]
	if os.Args[1] == "version" {
		answerVersion(module)
		return
	}
	settings := &Settings{Bootstrap: words[0], own: map[string]string{}}
	words = words[1:]
	if os.Args[1] == "follow" {
		settings.Topic, words = words[0], words[1:]
	}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		settings.own[name] = value
	}
	if os.Args[1] == "follow" {
		follow(settings)
	} else {
		produce(settings)
	}
}

func answerVersion(module string) {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			Answer(map[string]string{"version": strings.TrimPrefix(module, "github.com/") + " " +
				strings.TrimPrefix(dependency.Version, "v")})
		}
	}
}

// Input gives every line of standard input; it is closed at the end.
func Input() <-chan Told {
	told := make(chan Told, 100000)
	go func() {
		defer close(told)
		input := bufio.NewReader(os.Stdin)
		for {
			line, err := input.ReadBytes('\n')
			if len(line) > 0 {
				var next Told
				Check(json.Unmarshal(line, &next))
				told <- next
			}
			if err == io.EOF {
				return
			}
			Check(err)
		}
	}()
	return told
}

// Closed gives a channel that is closed when standard input is: a following driver is to end.
func Closed() <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	return closed
}

var output sync.Mutex

// Answer prints a line.
func Answer(line any) {
	text, err := json.Marshal(line)
	Check(err)
	output.Lock()
	defer output.Unlock()
	_, err = os.Stdout.Write(append(text, '\n'))
	Check(err)
}

// AnswerDelivered prints where a record is stored.
func AnswerDelivered(partition int32, offset int64) {
	Answer(map[string]int64{"partition": int64(partition), "offset": offset})
}

// AnswerError prints an error and Kafka's code for it, -1 when there is none.
func AnswerError(code int, err error) {
	Answer(map[string]any{"error": code, "message": err.Error()})
}

// AnswerEnd prints the last line of a driver whose client does not tell its position.
func AnswerEnd() {
	Answer(map[string]any{"end": map[string]any{"position": map[string]int64{}}})
}

// Check ends the driver on what should not happen.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
