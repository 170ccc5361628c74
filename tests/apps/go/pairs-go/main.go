// pairs-go is both ends of many exchanges whose statuses follow a known sequence, so that one slipped pairing
// shows in the counts and in the delays.
//
//	pairs-go serve ADDRESS
//	pairs-go request ADDRESS REQUESTS CONNECTIONS
//
// The path says which status is due. Each status has its own method, so that a response paired with a
// neighbouring request shows as a combination that was never sent.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
)

type kind struct {
	method string
	path   string
	status int
}

// Neighbours differ in method, path and status.
var kinds = []kind{
	{"GET", "/alpha", 200},
	{"POST", "/beta", 201},
	{"PUT", "/gamma", 202},
	{"DELETE", "/delta", 203},
	{"PATCH", "/epsilon", 206},
	{"OPTIONS", "/zeta", 500},
	{"GET", "/eta", 503},
}

func serve(address string) {
	statuses := map[string]int{}
	for _, k := range kinds {
		statuses[k.path] = k.status
	}
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(statuses[r.URL.Path])
		fmt.Fprint(w, "fine\n")
	})))
}

// talk writes and reads on different goroutines, as Go's own transport does, on one connection.
func talk(address string, offset, count int) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	due := make(chan kind)
	done := make(chan error, 1)
	answered := make(chan struct{})
	go func() {
		reader := bufio.NewReader(connection)
		for k := range due {
			request := &http.Request{Method: k.method}
			response, err := http.ReadResponse(reader, request)
			if err == nil && response.StatusCode != k.status {
				err = fmt.Errorf("%s %s: status %d", k.method, k.path, response.StatusCode)
			}
			if err != nil {
				done <- err
				return
			}
			response.Body.Close()
			answered <- struct{}{}
		}
		done <- nil
	}()
	for i := 0; i < count; i++ {
		k := kinds[(offset+i)%len(kinds)]
		// The reader waits before the request leaves.
		due <- k
		head := k.method + " " + k.path + " HTTP/1.1\r\nHost: pairs.test\r\nContent-Length: 0\r\n\r\n"
		if _, err := connection.Write([]byte(head)); err != nil {
			return err
		}
		select {
		case <-answered:
		case err := <-done:
			return err
		}
	}
	close(due)
	return <-done
}

func request(address string, requests, connections int) {
	var all sync.WaitGroup
	share := requests / connections
	for c := 0; c < connections; c++ {
		all.Add(1)
		go func(offset int) {
			defer all.Done()
			if err := talk(address, offset, share); err != nil {
				log.Fatal(err)
			}
		}(c)
	}
	all.Wait()
	counts := map[kind]int{}
	for c := 0; c < connections; c++ {
		for i, k := range kinds {
			first := (i - c%len(kinds) + len(kinds)) % len(kinds)
			counts[k] += (share - first + len(kinds) - 1) / len(kinds)
		}
	}
	for _, k := range kinds {
		fmt.Println(k.method, k.path, k.status, counts[k])
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	}
	request(os.Args[2], number(os.Args[3]), number(os.Args[4]))
}
