// Package headrecovery turns the head logs of sidecars that are gone into blocks of the
// bucket, and removes the logs afterwards.
//
// The steps of Recover, each of which may be the last before the process is killed:
//
//  1. download the pieces, write the blocks in a local directory
//  2. upload the blocks; their names follow from their content
//  3. write recovered.json, which says up to which piece the blocks have all samples
//  4. list the generation again: with newer pieces, the source lives after all, and
//     nothing is removed
//  5. remove the pieces, the claim, recovered.json, and source.json as the last
//
// A second run, on the same machine or another one, uploads the same blocks again or
// finds them, or goes on at step 4. Only step 5 takes anything out of the bucket.
package headrecovery
