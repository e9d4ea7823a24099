package blocklist

// IndexName is indexName for tests outside the package.
const IndexName = indexName
