//! What bytes mean in Tidegate: RFC 6455, envelopes, FlatBuffers, codecs, tokens; sans-IO.
