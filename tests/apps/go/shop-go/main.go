// shop-go serves the paths that all servers under test know, with net/http as it comes.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func shop(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/ok":
		fmt.Fprint(w, "fine\n")
	case strings.HasPrefix(r.URL.Path, "/items/") && r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(r.URL.Path, "/items/"):
		fmt.Fprint(w, "an item\n")
	case r.URL.Path == "/orders":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			log.Fatal(err)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%d bytes\n", len(body))
	case r.URL.Path == "/slow":
		time.Sleep(20 * time.Millisecond)
		fmt.Fprint(w, "slow\n")
	case r.URL.Path == "/busy":
		time.Sleep(40 * time.Millisecond)
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/fail":
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/stream":
		for i := 0; i < 3; i++ {
			fmt.Fprint(w, "piece\n")
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	default:
		http.NotFound(w, r)
	}
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.HandlerFunc(shop)))
}
