// fetch-go requests each line of standard input ("METHOD URL STATUS") with net/http as it comes and fails if an
// answer has another status.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var method, url string
		var status int
		if _, err := fmt.Sscanf(lines.Text(), "%s %s %d", &method, &url, &status); err != nil {
			log.Fatal(err)
		}
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader("an order of some length\n")
		}
		request, err := http.NewRequest(method, url, body)
		if err != nil {
			log.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			log.Fatalf("%s %s: status %d, expected %d", method, url, response.StatusCode, status)
		}
	}
}
