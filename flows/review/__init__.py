"""The review page: a server on loopback where a person looks at records and decides."""
