vcl 4.1;
# A Varnish behind Ringway that fetches through Ringway, so that what it has only just come to own comes from the cache that owned it
# before. Goes with cache-fleet-fill.toml; docs/FILL.md tells why each line is there.

# Ringway's fill listener: the origin is behind it.
backend default {
    .host = "10.0.0.100";
    .port = "8081";
    .first_byte_timeout = 60s;
}

sub vcl_recv {
    if (req.url == "/healthz") {
        return (synth(200));
    }
    if (req.http.Ringway-Fill) {
        # Ringway asks for another cache: from the store or not at all, nothing stale, and without a wait for a fetch under way.
        set req.grace = 0s;
        set req.hash_ignore_busy = true;
    }
}

sub vcl_miss {
    if (req.http.Ringway-Fill) {
        return (synth(504));
    }
}

sub vcl_pass {
    if (req.http.Ringway-Fill) {
        return (synth(504));
    }
}
