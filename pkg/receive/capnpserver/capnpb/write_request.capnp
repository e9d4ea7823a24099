using Go = import "/std/go.capnp";
@0x85d3acc39d94e0f8;
$Go.package("capnpb");
$Go.import("github.com/hindsight-io/hindsight/pkg/receive/capnpserver/capnpb");

# What a router of the Thanos family sends over Cap'n Proto. Ids and ordinals are
# those of its protocol.

struct Symbols @0xab79e1a6ecfeb87a {
  data @0 :Data;
  offsets @1 :List(UInt32); # where each symbol ends
}

struct Label @0xf192c7ee07114b32 {
  name @0 :UInt32;
  value @1 :UInt32;
}

struct Sample @0xef49df6cfa8875de {
  timestamp @0 :Int64;
  value @1 :Float64;
}

struct Exemplar @0xbd820120399954be {
  labels @0 :List(Label);
  value @1 :Float64;
  timestamp @2 :Int64;
}

struct BucketSpan @0x983649d193295eae {
  offset @0 :Int32;
  length @1 :UInt32;
}

struct Histogram @0xc4dd3c458256382a {
  enum ResetHint {
    unknown @0;
    yes @1;
    no @2;
    gauge @3;
  }

  count :union {
    countInt @0 :UInt64;
    countFloat @1 :Float64;
  }
  sum @2 :Float64;
  schema @3 :Int32;
  zeroThreshold @4 :Float64;
  zeroCount :union {
    zeroCountInt @5 :UInt64;
    zeroCountFloat @6 :Float64;
  }
  negativeSpans @7 :List(BucketSpan);
  negativeDeltas @8 :List(Int64);
  negativeCounts @9 :List(Float64);
  positiveSpans @10 :List(BucketSpan);
  positiveDeltas @11 :List(Int64);
  positiveCounts @12 :List(Float64);
  resetHint @13 :ResetHint;
  timestamp @14 :Int64;
}

struct TimeSeries @0xb438c10228b97446 {
  labels @0 :List(Label);
  samples @1 :List(Sample);
  histograms @2 :List(Histogram);
  exemplars @3 :List(Exemplar);
}

struct TimeSeriesTenantTuple @0xd5af58206073be1f {
  nop @0 :Symbols; # unused
  timeSeries @1 :List(TimeSeries);
  tenant @2 :Text;
}

struct WriteRequest @0xeb3bcb770c8eb6be {
  symbols @0 :Symbols;
  timeSeries @1 :List(TimeSeries); # of the one tenant below
  tenant @2 :Text;
  data @3 :List(TimeSeriesTenantTuple);
}

enum WriteError @0xe67be4164a39ea55 {
  none @0;
  unavailable @1;
  alreadyExists @2;
  invalidArgument @3;
  internal @4;
}

interface Writer @0xcc20b9c332c83b91 {
  write @0 (wr :WriteRequest) -> (error :WriteError, extraErrorContext :Text);
}
