"""What a request costs: our endpoint beside bare decoding and computing, a plain uvicorn app, and other servers."""
