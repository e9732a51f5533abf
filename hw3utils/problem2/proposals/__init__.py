"""Region proposals: anchors, boxes, and the suppression of overlapping ones."""
