// Package bucketadmin has the parts of the commands "tools bucket": blocks as rows of a
// table, checks of blocks, and copies of blocks between buckets. All but CheckBlock and
// CopyBlock is pure.
package bucketadmin
