"""Other people's schedulers and queues, as their documentation recommends; in an environment of their own."""
