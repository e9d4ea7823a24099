// Package tsdbimport makes blocks of samples in other formats: OpenMetrics text, the JSON
// lines of VictoriaMetrics, and the blocks of a Prometheus. Import reads the input once and
// distributes the samples over files, one for each window of two hours; the package
// headblock makes a block of each. Verify reads the input again and compares each sample with
// the blocks. Both hold the labels of all series and a bounded number of samples.
package tsdbimport
