"""Requests each line of standard input ("METHOD URL STATUS") with urllib; another status is a failure."""

import sys
import urllib.error
import urllib.request


def fetch(method, url, data):
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


for line in sys.stdin:
    method, url, status = line.split()
    data = b"an order of some length\n" if method == "POST" else None
    found = fetch(method, url, data)
    if found != int(status):
        sys.exit(f"{method} {url}: status {found}, expected {status}")
