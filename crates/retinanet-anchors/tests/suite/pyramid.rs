//! Levels and pyramids.

use retinanet_anchors::{Pyramid, PyramidError, PyramidLevel};

#[test]
fn levels() {
    assert_eq!([PyramidLevel::P2, PyramidLevel::P7].map(PyramidLevel::stride), [4, 128]);
    assert_eq!(PyramidLevel::new(5), Some(PyramidLevel::P5));
    assert_eq!([0, 9, 255].map(PyramidLevel::new), [None; 3]);
    assert_eq!(PyramidLevel::COARSEST.next(), None);
    assert!(PyramidLevel::P3 < PyramidLevel::P4);
}

#[test]
fn level_names() {
    for number in 1..=8 {
        let level = PyramidLevel::new(number).unwrap();
        assert_eq!(level.to_string().parse(), Ok(level));
        assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"P{number}\""));
        assert_eq!(serde_json::from_str::<PyramidLevel>(&format!("\"P{number}\"")).unwrap(), level);
    }
    for name in ["", "P", "3", "p3", "P0", "P9", "P03", "P+3", "P3 ", "Pé"] {
        let error = name.parse::<PyramidLevel>().unwrap_err();
        assert_eq!(error.to_string(), format!("pyramid: level: expected P1 to P8, found {name:?}"));
    }
}

#[test]
fn values_by_level() {
    let pyramid = Pyramid::new(PyramidLevel::P6, vec!['a', 'b', 'c']).unwrap();
    let expected = [(PyramidLevel::P6, &'a'), (PyramidLevel::P7, &'b'), (PyramidLevel::P8, &'c')];
    assert!(pyramid.iter().eq(expected));
    assert!(pyramid.levels().rev().eq([PyramidLevel::P8, PyramidLevel::P7, PyramidLevel::P6]));
    assert_eq!((pyramid.len(), pyramid.finest()), (3, PyramidLevel::P6));
    assert_eq!(pyramid.get(PyramidLevel::P5), None);
    assert_eq!(pyramid.get(PyramidLevel::P8), Some(&'c'));
    assert_eq!(pyramid.map(|level, value| format!("{value}{level}")).into_values(), ["aP6", "bP7", "cP8"]);
    let failed = pyramid.try_map(|level, _| if level > PyramidLevel::P6 { Err(level) } else { Ok(()) });
    assert_eq!(failed, Err(PyramidLevel::P7));
}

#[test]
fn ranges_that_do_not_exist() {
    assert_eq!(Pyramid::<()>::new(PyramidLevel::P3, vec![]), Err(PyramidError::Empty));
    let error = Pyramid::new(PyramidLevel::P6, vec![(); 4]).unwrap_err();
    assert_eq!(error.to_string(), "pyramid: levels from P6: expected at most 3, found 4");
}
