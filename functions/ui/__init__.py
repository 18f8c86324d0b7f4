"""The dashboard: pages under /ui/ for people, over the same functions as the API."""
