"""Networks and the files they are kept in: from a backbone's name to a trained, self-describing artifact."""
