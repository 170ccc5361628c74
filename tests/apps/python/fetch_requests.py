"""Requests each line of standard input ("METHOD URL STATUS") with requests; another status is a failure."""

import sys

import requests

session = requests.Session()


def fetch(method, url, data):
    return session.request(method, url, data=data).status_code


for line in sys.stdin:
    method, url, status = line.split()
    data = b"an order of some length\n" if method == "POST" else None
    found = fetch(method, url, data)
    if found != int(status):
        sys.exit(f"{method} {url}: status {found}, expected {status}")
