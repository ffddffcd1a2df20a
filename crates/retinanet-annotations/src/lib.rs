//! What is known of images: classes, category ids, boxes as read, and the file formats that hold them.
