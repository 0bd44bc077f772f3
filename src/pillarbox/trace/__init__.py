"""What happened to messages and in sessions, told to a file of its own, for `pillarbox explain`.

Services say what happened as `events` to the `recorder`, which costs microseconds and waits for nothing; `writer` takes
it to `trace-WORKER.db` once a second; `reader` finds it there again, and `story` puts it in order. Losing such a file,
or all of them, stops nothing.
"""
