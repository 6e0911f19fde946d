// What is done to one record, in six stages. Begin here to add one, or to change what one does.
//
//   stage      asks                                     today                                      file
//   validate   has the record the form that             well-formed headers; one envelope to       validate.h
//              everything behind it relies on?          open, none to seal
//   identify   whose record is it?                      a user, topic or cluster, and its key      identify.h
//   select     may this reader have it?                 rules (`where`), within identify           select.h
//   authorize  may it go on: pass, hide, mask, stop?    erased users, plaintext                    authorize.h
//   transform  what do its bytes become?                sealed, opened, masked, kept               transform.h
//   observe    what is there to count?                  counts; what the reader still sees         observe.h
//
// Each file has the stage for both directions: FooProduced for records on their way to the broker, FooFetched for those
// on their way to a reader (`select` and `authorize` have the latter only). A pass (guard/seal/seal_pass.h,
// guard/open/open_pass.h) makes its stages once for a batch, and calls `Of` of each for every record; `identify` gets
// some records at once. So what depends on the topic's policy alone is decided in a constructor.
//
// - A stage never suspends. What it lacks it notes in Needs (guard/worker/needs.h), and goes on as if the record were
//   fine: nothing that such a pass writes is kept. When the needs are fetched, a new pass starts.
// - A stage that finds something wrong returns a Problem, and the stages behind it do not see the record.
// - `Of` allocates nothing, takes no lock, logs nothing and is not virtual. Bytes in, bytes out: a record that is
//   produced again becomes the same, but for the salt.
#pragma once

#include "guard/stages/authorize.h"
#include "guard/stages/identify.h"
#include "guard/stages/observe.h"
#include "guard/stages/select.h"
#include "guard/stages/transform.h"
#include "guard/stages/validate.h"
